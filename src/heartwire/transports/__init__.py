"""How bytes travel: links and framing for each way in. What the bytes mean is the dialects' business."""
