//! Compression with reused contexts.
//!
//! In: the slices of a body. Out: the compressed body. Promises: no data of one body ends up in the next; at most
//! [`MAX_IDLE`] idle contexts of each kind are kept.
//!
//! A context is 270 KiB (gzip) to 1.3 MiB (zstd, large bodies) of tables: allocating and clearing them costs as much as
//! compressing dozens of lines.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Buf;
use flate2::{Compress, FlushCompress, Status};
use zstd::zstd_safe::{
    CCtx, CParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective, compress_bound, get_error_name,
};

use super::slices::Slices;

/// Level 1 for both: telemetry is repetitive, and higher levels cost more CPU than they save on the wire.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;
/// Window size of every gzip stream.
const GZIP_WINDOW_BITS: u8 = 15;
/// Maximum number of idle contexts of each kind. Compression is bound by cores, so more are rarely in use.
const MAX_IDLE: usize = 4;
/// Free space in the output buffer before each call of a compressor.
const MIN_FREE_BYTES: usize = 4 * 1024;

/// Pools of compression contexts.
#[derive(Debug)]
pub(super) struct Compressors {
    gzip: Pool<Compress>,
    zstd: Pool<CCtx<'static>>,
}

struct Pool<C> {
    idle: Mutex<Vec<C>>,
}

// === impl Compressors ===

impl Compressors {
    pub(super) fn new() -> Self {
        Self { gzip: Pool::new(), zstd: Pool::new() }
    }

    pub(super) fn gzip(&self, plain: &Slices) -> io::Result<Vec<u8>> {
        let new = || Compress::new_gzip(flate2::Compression::new(GZIP_LEVEL), GZIP_WINDOW_BITS);
        self.gzip.with(|| Ok(new()), |context| gzip(context, plain))
    }

    pub(super) fn zstd(&self, plain: &Slices) -> io::Result<Vec<u8>> {
        self.zstd.with(new_zstd, |context| zstd(context, plain).map_err(zstd_error))
    }
}

// === impl Pool ===

impl<C> Pool<C> {
    fn new() -> Self {
        Self { idle: Mutex::new(Vec::with_capacity(MAX_IDLE)) }
    }

    /// Runs `work` with a context. A context whose work failed or panicked is not reused.
    fn with<T>(
        &self,
        new: impl FnOnce() -> io::Result<C>,
        work: impl FnOnce(&mut C) -> io::Result<T>,
    ) -> io::Result<T> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = idle().pop();
        let mut context = lent.map_or_else(new, Ok)?;
        let result = work(&mut context)?;
        let mut idle = idle();
        if idle.len() < MAX_IDLE {
            idle.push(context);
        }
        Ok(result)
    }
}

impl<C> std::fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

fn gzip(context: &mut Compress, plain: &Slices) -> io::Result<Vec<u8>> {
    context.reset();
    let mut out = Vec::with_capacity(plain.remaining() / 8 + MIN_FREE_BYTES);
    for piece in plain.iter() {
        let before = context.total_in();
        loop {
            let read = usize::try_from(context.total_in() - before).unwrap_or(usize::MAX);
            let Some(rest) = piece.get(read..).filter(|rest| !rest.is_empty()) else { break };
            out.reserve(MIN_FREE_BYTES);
            context.compress_vec(rest, &mut out, FlushCompress::None)?;
        }
    }
    loop {
        out.reserve(MIN_FREE_BYTES);
        if context.compress_vec(&[], &mut out, FlushCompress::Finish)? == Status::StreamEnd {
            return Ok(out);
        }
    }
}

fn new_zstd() -> io::Result<CCtx<'static>> {
    let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    context.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).map_err(zstd_error)?;
    Ok(context)
}

fn zstd(context: &mut CCtx<'_>, plain: &Slices) -> Result<Vec<u8>, ErrorCode> {
    context.reset(ResetDirective::SessionOnly)?;
    // Small bodies use small tables.
    context.set_pledged_src_size(Some(plain.remaining() as u64))?;
    // Upper bound of the compressed size, so that the buffer never grows.
    let mut compressed = Vec::with_capacity(compress_bound(plain.remaining()));
    let mut out = OutBuffer::around(&mut compressed);
    for piece in plain.iter() {
        let mut piece = InBuffer::around(piece);
        while piece.pos() < piece.src.len() {
            context.compress_stream(&mut out, &mut piece)?;
        }
    }
    while context.end_stream(&mut out)? > 0 {}
    compressed.shrink_to_fit();
    Ok(compressed)
}

fn zstd_error(code: ErrorCode) -> io::Error {
    io::Error::other(get_error_name(code))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use bytes::Bytes;

    use super::*;

    /// Returns bodies of many sizes, each with a distinct word, in slices.
    fn bodies() -> Vec<(String, Slices)> {
        let sizes = [3_000_000, 1, 2_000, 0, 300_000, 17, 1_000_000, 60];
        let body = |(number, size): (usize, &usize)| {
            let word = format!("secret-of-{number} ");
            let text = word.repeat(size / word.len() + usize::from(*size > 0));
            let whole = Bytes::from(text.clone());
            let pieces: Vec<Bytes> = whole.chunks(1_777).map(|piece| whole.slice_ref(piece)).collect();
            (text, pieces.into())
        };
        sizes.iter().enumerate().map(body).collect()
    }

    #[test]
    fn a_reused_context_compresses_a_body_exactly_like_a_new_one() {
        let used = Compressors::new();
        for (text, body) in bodies().into_iter().chain(bodies()) {
            let gzip = used.gzip(&body).unwrap();
            assert!(gzip == Compressors::new().gzip(&body).unwrap());
            let mut plain = String::new();
            flate2::read::MultiGzDecoder::new(&gzip[..]).read_to_string(&mut plain).unwrap();
            assert!(plain == text);

            let zstd = used.zstd(&body).unwrap();
            assert!(zstd == Compressors::new().zstd(&body).unwrap());
            assert!(zstd::decode_all(&zstd[..]).unwrap() == text.as_bytes());
        }
        assert_eq!((used.gzip.idle.lock().unwrap().len(), used.zstd.idle.lock().unwrap().len()), (1, 1));
    }

    #[test]
    fn a_context_whose_work_failed_is_not_reused_and_only_a_few_are_kept() {
        let pool = Pool::new();
        let kept = || pool.idle.lock().unwrap().len();
        fn nested(pool: &Pool<u8>, depth: usize) -> io::Result<()> {
            pool.with(|| Ok(0), |_| if depth > 0 { nested(pool, depth - 1) } else { Ok(()) })
        }
        nested(&pool, 2 * MAX_IDLE).unwrap();
        assert_eq!(kept(), MAX_IDLE);
        pool.with(|| Ok(0), |_| io::Result::<()>::Err(io::ErrorKind::Other.into())).unwrap_err();
        assert_eq!(kept(), MAX_IDLE - 1);
    }
}
