"""Reading what toolchains wrote: real quantized checkpoints, matrix by matrix, from the tensors.

``open_checkpoint`` in ``open.py`` says which toolchain's layout a file or folder has and gives a
:class:`~bitgap.formats.checkpoint.Checkpoint`; there is one file a layout. ``gguf/`` reads GGUF,
which is a whole model too. Importing this package imports no torch; its modules do.
"""
