"""The figures of the page: data in, shapes out; the template ``figures.html`` turns them into SVG."""
