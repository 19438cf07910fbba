# The least that a program built on click costs: the same interpreter, and the import.
"$PYTHON" -c "import click"
