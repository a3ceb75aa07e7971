"""The figures of the report as SVG: data in, markup out."""
