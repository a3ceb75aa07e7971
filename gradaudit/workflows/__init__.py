"""Where the wings meet: a manifest and a model come in; an audit, a folder of explained images or a
table of layers goes out.

Everything that needs both torch and the tables lives here, and nowhere else.
"""
