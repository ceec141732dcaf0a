mod declined;
mod otlp;
