//! The bytes to check: read from a file or from standard input, limited, with a guess at their sender.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::sources;
use crate::receiver::Source;

/// Default of `server.max_request_body_size`.
const MAX_INPUT_BYTES: u64 = 100 << 20;

/// First bytes of compressed files, and the command that decompresses them.
const COMPRESSED: [(&[u8], &str, &str); 3] = [
    (&[0x1f, 0x8b], "gzip", "gzip -dc"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", "zstd -dc"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy", "snzip -dc"),
];

/// The reason why there is no input.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot read standard input: {0}")]
    Stdin(io::Error),
    #[error("the input is larger than {} MiB, which is more than a relay accepts in one request; split it at line ends", MAX_INPUT_BYTES >> 20)]
    TooLarge,
    #[error("the input is compressed with {codec}; pipe it in with `{command} FILE | spanrelay check`")]
    Compressed { codec: &'static str, command: &'static str },
}

/// Reads the whole input.
pub(super) fn read(file: Option<&Path>) -> Result<Bytes, InputError> {
    let body = match file.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let failed = |source| InputError::File { path: path.to_owned(), source };
            bounded(File::open(path).map_err(failed)?).map_err(failed)?
        }
        None => {
            let stdin = io::stdin().lock();
            if stdin.is_terminal() {
                // Only a hint; standard error may be closed.
                writeln!(io::stderr(), "reading standard input; end with ctrl-d").ok();
            }
            bounded(stdin).map_err(InputError::Stdin)?
        }
    };
    let body = body.ok_or(InputError::TooLarge)?;
    match COMPRESSED.iter().find(|(magic, ..)| body.starts_with(magic)) {
        Some(&(_, codec, command)) => Err(InputError::Compressed { codec, command }),
        None => Ok(body),
    }
}

/// Returns the source that recognizes the body, else the one whose bodies no other source recognizes.
pub(super) fn guess(body: &[u8]) -> &'static Source {
    let recognizes = |source: &Source| source.check.as_ref().and_then(|check| check.recognizes);
    let recognized = sources().find(|source| recognizes(source).is_some_and(|recognizes| recognizes(body)));
    recognized.or_else(|| sources().find(|source| recognizes(source).is_none())).expect("Fastly is a source")
}

fn bounded(reader: impl Read) -> io::Result<Option<Bytes>> {
    let mut body = Vec::new();
    let read = reader.take(MAX_INPUT_BYTES + 1).read_to_end(&mut body)?;
    Ok((read as u64 <= MAX_INPUT_BYTES).then(|| Bytes::from(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_with_type_and_webhook_is_a_webhook_and_all_else_a_batch() {
        assert_eq!(guess(br#" {"type":"ping","id":"1","webhook":{}} "#).name(), "circleci");
        assert_eq!(guess(b"{\"type\":\"ping\",\n\"happened_at\":\"2026\"}\n").name(), "circleci");
        for batch in [
            r#"{"resourceSpans":[]}"#,
            r#"{"type":"ping","webhook":{}}{"type":"ping","webhook":{}}"#,
            r#"[{"type":"ping","webhook":{}}]"#,
            r#"{"type":"ping"}"#,
            r#"{"webhook":{},"happened_at":1}"#,
            "",
            "plain text",
        ] {
            assert_eq!(guess(batch.as_bytes()).name(), "fastly", "{batch}");
        }
    }

    #[test]
    fn a_missing_file_is_named_and_a_compressed_one_gets_its_command() {
        let missing = read(Some(Path::new("/nonexistent/batch.ndjson"))).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /nonexistent/batch.ndjson: "), "{missing}");

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batch");
        std::fs::write(&path, [0x1f, 0x8b, 8, 0]).unwrap();
        assert_eq!(
            read(Some(&path)).unwrap_err().to_string(),
            "the input is compressed with gzip; pipe it in with `gzip -dc FILE | spanrelay check`"
        );
        std::fs::write(&path, "{}\n").unwrap();
        assert_eq!(read(Some(&path)).unwrap(), "{}\n");
    }
}
