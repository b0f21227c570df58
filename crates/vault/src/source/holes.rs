//! Where a file has bytes and where only zeros that were never written.

use super::Extent;
use rustix::fd::BorrowedFd;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::io;

/// What lies at `offset`, which is below `size`. A file system that knows no holes says: data up to the end.
///
/// # Errors
/// What the system says.
pub fn extent(file: BorrowedFd<'_>, offset: u64, size: u64) -> io::Result<Extent> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) if data > offset => Ok(Extent::Hole(data.min(size))),
        Ok(_) => match seek(file, SeekFrom::Hole(offset)) {
            Ok(hole) if hole > offset => Ok(Extent::Data(hole.min(size))),
            Ok(_) => Ok(Extent::Data(size)),
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(Extent::Data(size)),
            Err(error) => Err(error.into()),
        },
        // No data behind this place.
        Err(Errno::NXIO) => Ok(Extent::Hole(size)),
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::SPIPE) => Ok(Extent::Data(size)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn holes_are_found_and_cover_the_file() {
        let path = std::env::temp_dir().join(format!("kobj-vault-holes-{}", std::process::id()));
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let size = 10 << 20;
        file.set_len(size).unwrap();
        file.write_all_at(b"x", 5 << 20).unwrap();
        let (mut at, mut holes) = (0, 0);
        while at < size {
            let end = match extent(file.as_fd(), at, size).unwrap() {
                Extent::Data(end) => end,
                Extent::Hole(end) => {
                    assert!(!(at..end).contains(&(5 << 20)), "what was written is no hole");
                    holes += end - at;
                    end
                }
            };
            assert!(end > at && end <= size);
            at = end;
        }
        if holes == 0 {
            println!("skipped: holes_are_found: the file system of the temporary folder has no holes");
        } else {
            assert!(holes >= 9 << 20, "{holes}");
        }
    }
}
