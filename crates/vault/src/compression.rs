//! zstd, with what comes out bounded before it does.

use std::io::{self, BufRead, Read};

/// Largest window that is accepted: 128 MiB, zstd's own bound for decoders. restic's frames need 8 MiB.
const WINDOW_LOG_MOST: u32 = 27;

/// A zstd frame of these bytes. `level` as zstd counts, 1 the fastest that is worth it.
///
/// # Errors
/// When zstd has no memory.
pub fn compress(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, level)
}

/// The bytes of a frame, which must be exactly this many.
///
/// # Errors
/// For anything that is no whole frame, or has another length.
pub fn decompress_exactly(frame: &[u8], length: usize) -> io::Result<Vec<u8>> {
    // Not allocated at once: the length is a claim, and the frame may be tiny.
    let mut bytes = Vec::with_capacity(length.min(frame.len().saturating_mul(64)).min(length));
    reader(frame)?.take(length as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() != length {
        return Err(io::Error::other(format!("it does not decompress to {length} bytes")));
    }
    Ok(bytes)
}

/// The bytes of a frame, at most this many.
///
/// # Errors
/// For anything that is no whole frame, or is longer.
pub fn decompress_bounded(frame: &[u8], most_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader(frame)?.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        return Err(io::Error::other(format!("it decompresses to more than {most_bytes} bytes")));
    }
    Ok(bytes)
}

/// Decompresses piece by piece.
///
/// # Errors
/// When zstd has no memory.
pub fn reader<'a>(frame: impl BufRead + 'a) -> io::Result<impl Read + 'a> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(frame)?;
    decoder.window_log_max(WINDOW_LOG_MOST)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_bounded() {
        let zeros = vec![0; 1 << 20];
        let frame = compress(&zeros, 1).expect("compressed");
        assert!(frame.len() < 1000);
        assert_eq!(decompress_exactly(&frame, zeros.len()).expect("whole"), zeros);
        assert_eq!(decompress_bounded(&frame, 1 << 20).expect("whole"), zeros);
        for wrong in [0, 1, zeros.len() - 1, zeros.len() + 1] {
            assert!(decompress_exactly(&frame, wrong).is_err(), "{wrong}");
        }
        assert!(decompress_bounded(&frame, (1 << 20) - 1).is_err());
        assert!(decompress_exactly(&frame[..frame.len() - 1], zeros.len()).is_err());
        assert!(decompress_bounded(b"no frame", 10).is_err());
    }
}
