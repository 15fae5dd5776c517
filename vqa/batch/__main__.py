"""`python -m vqa.batch`: see `vqa.batch.runner`."""

from vqa.batch.runner import main

main()
