"""The commands: each module here is the command of its name, with its parser and its work.

Every module is imported to build the parser, so it imports what its work needs inside `execute`, not at the top.
"""
