"""Code written for the original Dassl, CoOp and their relatives, in stand-ins of our own with the same names."""
