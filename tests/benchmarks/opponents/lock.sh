# The packages alone, for the same interpreter, platform and indexes, with hashes, into the same format; what the
# output file holds from the time before is kept, as in reprobox.lock. uv's cache is the one that reprobox uses.
"$UV" pip compile "$FOLDER/requirements.in" \
    --python-version "$PYTHON_VERSION" --python-platform "$PYTHON_PLATFORM" --python "$PYTHON" --no-python-downloads \
    --generate-hashes --no-header --output-file "$FOLDER/pylock.toml" --color never --no-progress
