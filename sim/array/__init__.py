"""The MAC array under test: whole layers as vectors, a bench that feeds its streams or memories, exact cycles."""
