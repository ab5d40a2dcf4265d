"""A stand-alone server of channels with your own rules.

heartwire serve hub_only:hub

curl -H 'Authorization: Bearer ann-token' -d hello localhost:8000/channels/team:red
curl -H 'Authorization: Bearer boss-token' 'localhost:8000/channels/audit:log?since=earliest'
"""

from starlette.requests import HTTPConnection

from heartwire import Forbidden, Hub, Identity, Unauthorized

USERS = {"ann-token": "ann", "bob-token": "bob", "boss-token": "boss"}
TEAMS = {"team:red": {"ann", "boss"}, "team:blue": {"bob", "boss"}}

hub = Hub(max_message_bytes=16 * 1024, publish_rate_per_s=10)


@hub.authenticate
async def who(request: HTTPConnection) -> str:
    """Browsers cannot set headers on a WebSocket, so they send the token in the query."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ") or request.query_params.get(
        "token", ""
    )
    if token not in USERS:
        raise Unauthorized("send a token: Authorization: Bearer TOKEN, or ?token=TOKEN")
    return USERS[token]


@hub.namespace("team", history_size=100, presence=True)
async def may(identity: Identity, action: str, channel: str) -> bool:
    """Only members may use their team's channel; the program writes each publish to the audit log."""
    if identity.user not in TEAMS.get(channel, set()):
        raise Forbidden(f"{identity.user} is not in {channel}")
    if action == "publish":
        await hub.publish("audit:log", {"user": identity.user, "channel": channel})
    return True


@hub.namespace("audit", publish=False)
def may_audit(identity: Identity, action: str, channel: str) -> bool:
    """Only the boss may read the log; clients cannot write to it (`publish=False`)."""
    return identity.user == "boss"
