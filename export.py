"""Export the classifier of a finished run: `python export.py RUN -o FOLDER`; see docs/use.md.

Writes matrices for open_clip and CLIP_benchmark, what the method adds to the image tower, config.json, a model card,
and use.py, which classifies with open_clip alone. Exit code: 0; 2 after a user error, with one message.
"""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before all other imports

import sys

from dassl.utils.arguments import Parser


def parse(argv=None):
    parser = Parser(description="Export the classifier of a finished run.")
    parser.add_argument("run", metavar="RUN", help="output folder of the run")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="a new or an empty folder")
    parser.add_argument("--task", metavar="NAME", help="key, name or number of the only task to export (default: all)")
    parser.add_argument("--onnx", action="store_true", help="also write the whole classifier as an ONNX graph")
    parser.add_argument("--int8", action="store_true", help="also write the graph with 8-bit weights, and its accuracy")
    parser.add_argument("--fold", action="store_true", help="also write an image classifier that timm loads")
    parser.add_argument("--root", metavar="DATA", default="", help="where the run's data are, if they have moved")
    parser.add_list(
        "--images", lambda word: True, metavar="IMAGE ...", default=[],
        help="images for the checks (default: the run's test images)",
    )  # fmt: skip
    return parser.parse_args(argv)


@program.entry
def main(argv=None):
    args = parse(argv)
    with program.starting():
        from softcpt.export.run import export

    more = {"onnx": args.onnx, "int8": args.int8, "folded": args.fold}
    export(args.run, args.output, args.task, root=args.root, images=args.images, **more)


if __name__ == "__main__":
    sys.exit(main())
