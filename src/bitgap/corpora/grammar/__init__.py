"""Text that tests grammar: minimal pairs of agreement, and sentences with gold features.

``pairs`` has the records; ``agreement`` reads our own from ``bundled/`` and the layouts of others;
``treebank`` reads CoNLL-U and finds where words end in tokens.
"""
