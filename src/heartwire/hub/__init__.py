"""What a Python program holds: the hub, who may do what, who is connected, and what it does unasked."""
