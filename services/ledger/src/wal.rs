//! The file of consensus's write-ahead log: begun, resumed, synced, read. What its bytes mean, and when it is damaged,
//! is `hbc_consensus::wal`; nothing here decides about it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use hbc_consensus::wal::{Record, Recovered, frame, opening, scan};
use hbc_db::disk::sync_folder_of;

/// The open log file.
#[derive(Debug)]
pub struct Wal {
    file: File,
    path: PathBuf,
}

impl Wal {
    /// Begins a log: all heights below `floor` are committed. What is in its place is gone then.
    pub fn begin(path: &Path, floor: u64) -> io::Result<Self> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&opening(floor))?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder_of(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Goes on with the log that was found; what came after its records is cut off.
    pub fn resume(path: &Path, found: &Recovered) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        file.set_len(found.kept)?;
        file.seek(SeekFrom::Start(found.kept))?;
        file.sync_all()?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Adds a record; it is durable only after [`Self::sync`].
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.file.write_all(&frame(record))
    }

    /// Makes everything appended durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Forgets everything: all heights below `floor` are committed.
    pub fn reset(&mut self, floor: u64) -> io::Result<()> {
        *self = Self::begin(&self.path, floor)?;
        Ok(())
    }
}

/// Reads a log and changes nothing.
pub fn look(path: &Path) -> io::Result<Recovered> {
    match fs::read(path) {
        Ok(bytes) => Ok(scan(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Recovered::none()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hbc_consensus::wal::Tail;

    fn record(height: u64, payload: &[u8]) -> Record {
        Record { height, payload: payload.to_vec() }
    }

    #[test]
    fn what_was_synced_is_read_back_and_a_torn_tail_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        assert_eq!(look(&path).unwrap().tail, Tail::New);
        let mut wal = Wal::begin(&path, 7).unwrap();
        wal.append(&record(7, b"one")).unwrap();
        wal.append(&record(7, b"two")).unwrap();
        wal.sync().unwrap();
        drop(wal);
        let whole = fs::read(&path).unwrap();
        let third = frame(&record(7, b"three"));
        for cut in 1..third.len() {
            let torn = [whole.as_slice(), &third[..cut]].concat();
            fs::write(&path, &torn).unwrap();
            let found = look(&path).unwrap();
            assert_eq!((found.tail, found.floor), (Tail::Torn, 7), "cut at {cut}");
            assert_eq!(found.records, [record(7, b"one"), record(7, b"two")]);
            assert_eq!(fs::read(&path).unwrap(), torn, "looking changes nothing");
            let mut wal = Wal::resume(&path, &found).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
            wal.append(&record(7, b"four")).unwrap();
            assert_eq!(look(&path).unwrap().records.len(), 3);
        }
        let zeros = [whole.as_slice(), &[0; 4_096]].concat();
        assert_eq!(scan(&zeros).tail, Tail::Torn, "the size was written, the bytes were not");
    }

    #[test]
    fn a_reset_log_says_from_which_height_on_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        let mut wal = Wal::begin(&path, 1).unwrap();
        wal.append(&record(1, b"x")).unwrap();
        wal.reset(2).unwrap();
        assert_eq!((look(&path).unwrap().floor, look(&path).unwrap().records.len()), (2, 0));
        wal.append(&record(2, b"y")).unwrap();
        wal.sync().unwrap();
        let found = look(&path).unwrap();
        assert_eq!((found.records, found.tail, found.floor), (vec![record(2, b"y")], Tail::Whole, 2));
    }
}
