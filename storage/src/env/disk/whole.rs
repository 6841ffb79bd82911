//! Small files that are there whole or not at all: written under another name and renamed, read in
//! one piece, with a seal that says what they are.
//!
//! ```text
//!   create NAME.new ─► append ─► sync ─► rename to NAME ─► sync the folder
//!        a crash before the rename leaves what NAME was, and a NAME.new that the next write removes
//! ```
//! When [`write_whole`] returns, the file survives a crash; when it answers an error, the name means
//! the old contents or the new ones, never anything else.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{Disk, Seal, disk_error, seal, unseal};
use crate::{Error, Result};

/// What the name of a file that is being written ends with.
pub const UNFINISHED: &str = ".new";

/// Puts a file of these bytes into a folder, in the place of the one of that name, durably. DiskFull
/// and Disk leave the name as it was, or with the new bytes if only the folder's sync failed.
pub fn write_whole(disk: &dyn Disk, folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (path, unfinished) = (folder.join(name), folder.join(format!("{name}{UNFINISHED}")));
    remove_if_there(disk, &unfinished)?;
    let mut created = disk.create(&unfinished).map_err(|error| disk_error(&path, &error))?;
    let written = created.append(bytes).and_then(|()| created.sync());
    if let Err(error) = written.and_then(|()| disk.rename(&unfinished, &path)) {
        // Its room is given back; if even that fails, the next write does it.
        let _left = disk.remove(&unfinished);
        return Err(disk_error(&path, &error));
    }
    disk.sync_folder(folder).map_err(|error| disk_error(folder, &error))
}

/// All bytes of a file, `None` if there is none of that name. Damaged if it has more than
/// `bytes_max`.
pub fn read_whole(disk: &dyn Disk, path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>> {
    let read = disk.open(path).and_then(|file| {
        let size = file.size()?;
        let mut bytes = vec![0; size.min(bytes_max) as usize];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(done as u64, &mut bytes[done..])? {
                0 => break,
                count => done += count,
            }
        }
        bytes.truncate(done);
        Ok((size, bytes))
    });
    match read {
        Ok((size, bytes)) if size == bytes.len() as u64 => Ok(Some(bytes)),
        Ok((size, _)) => Err(Error::Damaged(format!(
            "{} has {size} bytes, and should have at most {bytes_max}",
            path.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk_error(path, &error)),
    }
}

/// As [`write_whole`], under a seal.
pub fn write_sealed(
    disk: &dyn Disk,
    folder: &Path,
    name: &str,
    as_what: &Seal,
    payload: &[u8],
) -> Result<()> {
    write_whole(disk, folder, name, &seal(as_what, payload))
}

/// What was sealed in a file, and in which version of its format; `None` if there is no file of that
/// name. Damaged, with the file and why, if it is not whole, not what `as_what` says, or newer.
pub fn read_sealed(
    disk: &dyn Disk,
    path: &Path,
    as_what: &Seal,
    bytes_max: u64,
) -> Result<Option<(u16, Vec<u8>)>> {
    let Some(bytes) = read_whole(disk, path, bytes_max)? else { return Ok(None) };
    match unseal(as_what, &bytes) {
        Ok((version, payload)) => Ok(Some((version, payload.to_vec()))),
        Err(why) => Err(Error::Damaged(format!("{}: {why}", path.display()))),
    }
}

/// Removes a file if it is there; not durably.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(disk_error(path, &error)),
        _ => Ok(()),
    }
}

/// Makes a folder durably, and those above it that are missing; nothing if it is there.
pub fn make_folder(disk: &dyn Disk, path: &Path) -> Result<()> {
    let above = match path.parent() {
        Some(above) if above != Path::new("") => above.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let made = match disk.create_folder(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && path.parent().is_some() => {
            make_folder(disk, &above)?;
            disk.create_folder(path)
        }
        made => made,
    };
    match made {
        Ok(()) => disk.sync_folder(&above).map_err(|error| disk_error(&above, &error)),
        // It may be one that a crash would still take: who made it may not have come to the sync.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match disk.list(path) {
            Ok(_) => disk.sync_folder(&above).map_err(|error| disk_error(&above, &error)),
            Err(error) => Err(disk_error(path, &error)),
        },
        Err(error) => Err(disk_error(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::SimDisk, *};

    const SEAL: Seal = Seal { magic: *b"TWTESTED", version: 1, owner: [7, 8] };
    const FILE: &str = "/d/f";

    fn write(disk: &SimDisk, text: &str) -> Result<()> {
        write_sealed(disk, Path::new("/d"), "f", &SEAL, text.as_bytes())
    }

    fn read(disk: &SimDisk) -> Result<Option<String>> {
        let found = read_sealed(disk, Path::new(FILE), &SEAL, 1 << 10)?;
        Ok(found.map(|(_, payload)| String::from_utf8(payload).unwrap()))
    }

    #[test]
    fn after_a_crash_at_any_step_a_file_is_as_before_or_as_it_was_written() {
        let mut left = std::collections::BTreeSet::new();
        for seed in 0..20 {
            for stop in 0.. {
                let disk = SimDisk::new(seed * 100 + stop, ["/d"]);
                disk.stop_at(stop);
                let one = write(&disk, "one");
                let two = one.clone().and_then(|()| write(&disk, "two, and longer"));
                disk.crash();
                let found = read(&disk).unwrap();
                let found = found.as_deref();
                match (one.is_ok(), two.is_ok()) {
                    (_, true) => assert_eq!(found, Some("two, and longer")),
                    (true, _) => assert!(matches!(found, Some("one" | "two, and longer"))),
                    (false, _) => assert!(matches!(found, None | Some("one")), "{found:?}"),
                }
                left.insert(found.map(str::to_owned));
                write(&disk, "three").unwrap();
                disk.crash();
                assert_eq!(read(&disk).unwrap().as_deref(), Some("three"));
                assert_eq!(disk.list(Path::new("/d")).unwrap().len(), 1, "nothing else stays");
                if two.is_ok() {
                    break;
                }
            }
        }
        assert_eq!(left.len(), 3, "every outcome was met: {left:?}");
    }

    #[test]
    fn a_full_disk_keeps_what_there_was_and_the_room_there_was() {
        let disk = SimDisk::new(1, ["/d"]);
        write(&disk, "one").unwrap();
        disk.limit(Some(200));
        let error = write(&disk, &"long ".repeat(40)).unwrap_err();
        assert!(matches!(&error, Error::DiskFull(path) if path == Path::new(FILE)), "{error:?}");
        assert_eq!(read(&disk).unwrap().as_deref(), Some("one"));
        for _ in 0..20 {
            write(&disk, "short").unwrap();
        }
        assert_eq!(read(&disk).unwrap().as_deref(), Some("short"));
    }

    #[test]
    fn a_failed_sync_is_told_and_what_was_there_stays() {
        let disk = SimDisk::new(1, ["/d"]);
        write(&disk, "one").unwrap();
        disk.fail_syncs(true);
        assert_eq!(write(&disk, "two").unwrap_err().sqlstate(), "58030");
        disk.fail_syncs(false);
        assert_eq!(read(&disk).unwrap().as_deref(), Some("one"));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let disk = SimDisk::new(1, ["/d"]);
        write(&disk, &"x".repeat(2000)).unwrap();
        let error = read(&disk).unwrap_err();
        let expected = "/d/f has 2048 bytes, and should have at most 1024";
        assert_eq!((error.sqlstate(), error.to_string().as_str()), ("XX001", expected));
    }

    #[test]
    fn folders_are_made_with_those_above_and_survive_a_crash() {
        for stop in 0.. {
            let disk = SimDisk::new(stop, ["/"]);
            disk.stop_at(stop);
            let made = make_folder(&*disk, Path::new("/a/b/c"));
            disk.crash();
            if made.is_ok() {
                disk.list(Path::new("/a/b/c")).unwrap();
                break;
            }
            make_folder(&*disk, Path::new("/a/b/c")).unwrap();
            disk.crash();
            disk.list(Path::new("/a/b/c")).unwrap();
        }
        let disk = SimDisk::new(1, ["/d"]);
        write(&disk, "one").unwrap();
        assert!(make_folder(&*disk, Path::new(FILE)).is_err(), "a file is no folder");
    }
}
