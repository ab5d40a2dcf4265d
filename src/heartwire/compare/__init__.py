"""`heartwire compare`: polling, long polling, SSE and WebSocket, measured side by side on the same messages.

`run` measures a `plan` and makes a report (`figures`); `report` prints it as tables, `page` as HTML.
"""
