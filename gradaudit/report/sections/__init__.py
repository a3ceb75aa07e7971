"""The report's sections, in the order of the page; each turns the result document into blocks."""
