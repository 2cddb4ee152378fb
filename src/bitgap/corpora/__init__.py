"""Text that the laboratory reads: parallel sentences, and what tests grammar in ``grammar/``.

``parallel`` is the corpus every measurement needs and the only module most callers import;
``intake`` says which languages and which text are acceptable; ``layouts`` finds the files of
languages in a folder; ``readers``, ``tables`` and ``hub`` turn files and datasets into sentences;
``bundled/`` holds our own.
"""
