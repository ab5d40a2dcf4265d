"""How bytes travel: a link and the framing for each transport. The dialects give the bytes a meaning."""
