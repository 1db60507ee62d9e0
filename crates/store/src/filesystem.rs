//! Which file system a folder is on: SQLite's locks cannot be trusted over a network.

use std::path::Path;

/// The name of the network file system that `folder` (which exists) is on, `None` if it is local.
#[cfg(target_os = "linux")]
pub(crate) fn network_file_system(folder: &Path) -> std::io::Result<Option<String>> {
    let magic = magic(folder)?;
    if let Some(name) = network_magic(magic) {
        return Ok(Some(name.to_owned()));
    }
    if magic != FUSE {
        return Ok(None);
    }
    // All file systems in user space share one number. The mount table knows which it is.
    let folder = folder.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Ok(mounted_type(&mounts, &folder).filter(|name| is_network_fuse(name)))
}

/// Elsewhere nothing is known about it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn network_file_system(_folder: &Path) -> std::io::Result<Option<String>> {
    Ok(None)
}

#[cfg(target_os = "linux")]
const FUSE: u32 = 0x6573_5546;

/// The numbers are those of statfs(2).
#[cfg(target_os = "linux")]
fn network_magic(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517B => "SMB",
        0xFF53_4D42 => "CIFS",
        0xFE53_4D42 => "SMB2",
        0x0102_1997 => "9p",
        0x00C3_6400 => "Ceph",
        0x5346_414F => "AFS",
        0x7375_7245 => "Coda",
        0x564C => "NCP",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        _ => return None,
    })
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library does not tell the type of a file system")]
fn magic(folder: &Path) -> std::io::Result<u32> {
    use std::os::unix::ffi::OsStrExt;

    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with a nul byte and `answer` has the size that statfs fills in.
    if unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: statfs succeeded, so it is filled in.
    let kind = unsafe { answer.assume_init() }.f_type;
    // The field is 32 or 64 bits wide and signed or not, by platform; the numbers have 32 bits.
    Ok(kind as u32)
}

/// The type of the mount that `path` (absolute, without links) is on, out of the text of `/proc/self/mountinfo`.
#[cfg(target_os = "linux")]
fn mounted_type(mountinfo: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mountinfo.lines() {
        let Some((mount, system)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (mount.split(' ').nth(4), system.split(' ').next()) else { continue };
        let point = unescape(point);
        // Of two mounts at one point the later one covers the earlier.
        if path.starts_with(&point) && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// The kernel writes blanks, tabs, line ends and backslashes in paths as three octal digits.
#[cfg(target_os = "linux")]
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = |b: u8| (b'0'..=b'7').contains(&b).then(|| u32::from(b - b'0'));
        match tail {
            [a, b, c, after @ ..] if first == b'\\' => match (octal(*a), octal(*b), octal(*c)) {
                (Some(a), Some(b), Some(c)) => {
                    bytes.push((a * 64 + b * 8 + c) as u8);
                    rest = after;
                }
                _ => {
                    bytes.push(first);
                    rest = tail;
                }
            },
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(target_os = "linux")]
fn is_network_fuse(kind: &str) -> bool {
    const NETWORK: &[&str] = &[
        "sshfs",
        "s3fs",
        "gcsfuse",
        "rclone",
        "ceph",
        "gluster",
        "davfs",
        "curlftpfs",
        "smbnetfs",
        "goofys",
        "mountpoint",
        "juicefs",
        "s3ql",
        "blobfuse",
    ];
    NETWORK.iter().any(|name| kind.contains(name))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_number() {
        assert_eq!(network_magic(0x6969), Some("NFS"));
        assert_eq!(network_magic(0xFF53_4D42), Some("CIFS"));
        assert_eq!(network_magic(0x0102_1997), Some("9p"));
        assert_eq!(network_magic(0xEF53), None, "ext4 is local");
        assert_eq!(network_magic(FUSE), None, "the mount table decides");
    }

    #[test]
    fn proc_is_local_and_its_number_is_read() {
        assert_eq!(magic(Path::new("/proc")).expect("there"), 0x9FA0);
        assert_eq!(network_file_system(Path::new("/proc")).expect("there"), None);
    }

    #[test]
    fn the_innermost_mount_decides_and_escapes_are_read() {
        let mounts = "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      40 27 0:50 / /mnt/my\\040files rw shared:1 - fuse.sshfs host:/ rw\n\
                      41 27 0:51 / /mnt/my rw - fuse.ntfs-3g /dev/sdb rw\n";
        let kind = |path: &str| mounted_type(mounts, Path::new(path)).expect("mounted");
        assert_eq!(kind("/mnt/my files/a"), "fuse.sshfs");
        assert_eq!(kind("/mnt/my/a"), "fuse.ntfs-3g");
        assert_eq!(kind("/mnt/mine"), "ext4");
        assert!(is_network_fuse("fuse.sshfs"));
        assert!(!is_network_fuse("fuse.ntfs-3g"));
    }
}
