"""Scripts that load an export with the toolchain it is for, each in a fresh process.

They import nothing of bitgap, so that they run in whatever environment has the toolchain.
"""
