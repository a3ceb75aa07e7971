"""Rendered data with a known answer, and the small networks that learn it; used by the command line
and the tests alone.
"""
