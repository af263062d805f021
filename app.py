"""A page to try trained classifiers: `python app.py RUN...`; see docs/use.md.

Drop an image to see the classes of each task, and the training images that resemble it. Several runs stand side by
side. The page is served to this computer only; --host 0.0.0.0 serves it to the network.
"""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before all other imports

import argparse
import os
import sys

from dassl.utils.arguments import Parser
from dassl.utils.errors import UserError


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folders of finished runs")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to serve (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    return parser


@program.entry
def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # no reports to Gradio's makers
    try:
        with program.starting():
            from softcpt.app import build
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError("the page needs Gradio: pip install -r requirements-app.txt") from None
    page = build(options.runs)
    try:
        page.launch(server_name=options.host, server_port=options.port, share=False, prevent_thread_lock=True)
    except OSError as error:
        raise UserError(f"{options.host}:{options.port} cannot be served: {error}; give another --port") from None
    print("Ctrl-C ends it", flush=True)
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
