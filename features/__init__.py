"""Image features on disk (`store`), and in place of images (`loader`)."""
