"""Inputs that nobody meant: every reader of the toolkit given damaged files, and what it does.

A reader may return, or refuse with an exception of :mod:`bitgap.errors` whose message is one line.
Anything else is a fault: another exception, more than two seconds of processor time, or more memory
than 1.5 times the input and 64 MiB.
"""
