mod otlp;
mod turned_away;
