"""``python -m bench.nodes``: nodes on one store, beside python-socketio and Centrifugo."""
