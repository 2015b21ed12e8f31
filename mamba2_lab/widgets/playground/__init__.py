"""Let a model write, and watch it choose.

page.py      the widget: fields, buttons, texts, history
controls.py  its fields and buttons; labels.py, what they are called; request.py, what they ask for
session.py   what a press of a button sets going: loading, reading, writing, in a thread
column.py    settings and the text written with them, of which there are two for a comparison
writing.py   one text that grows; reasons.py, why each token was chosen
history.py   what was written; shelf.py, where models come from
app.py       the page without a notebook; kept_fields.py, what stands in its fields outlives a reload
"""
