"""The chat on the screen: a front end in one JavaScript module, a kernel that answers its questions."""
