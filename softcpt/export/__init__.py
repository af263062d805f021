"""A finished run in forms that other programs read: a matrix for open_clip, ONNX, an image classifier of timm."""
