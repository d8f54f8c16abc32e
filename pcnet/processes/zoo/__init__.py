"""Processes that have a name, and random ones.

A function that takes numbers and returns a process, once `pcnet.processes` exports it, is listed and explained by
`pcnet process`, in the words of its docstring.
"""
