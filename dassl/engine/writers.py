"""Where the numbers of a run are logged."""

import threading
from unittest import mock


class TensorBoard:
    """TensorBoard files in `folder`, which begin with the first number."""

    def __init__(self, folder):
        self.folder, self._writer = folder, None

    def log(self, tag, value, step):
        """Log a number "GROUP/NAME"."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and not every run needs it

            with mock.patch("socket.gethostname", return_value="host"):  # a part of the file's name, which is shared
                self._writer = SummaryWriter(log_dir=self.folder)
        self._writer.add_scalar(tag, value, step)

    def finish(self, record):
        """Nothing: the results are among the numbers."""

    def close(self):
        """Finish the files, unless a second signal has left their writer unable to end."""
        if self._writer is not None:
            closing = threading.Thread(target=self._writer.close, daemon=True)
            closing.start()
            closing.join(10)
