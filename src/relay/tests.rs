mod declined;
mod otlp;
mod rereading;
