"""The graders of the book's exercises, one module a chapter.

Each grader takes the reader's function, tries it on inputs the reader has not seen, and says what
is wrong where it is wrong. A chapter's module holds its exercises as data; `grading` does the rest.
"""
