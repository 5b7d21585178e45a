deny contains "held"
