use super::*;

fn read(folder: &tempfile::TempDir, content: &[u8]) -> Result<Vec<u8>> {
    let path = folder.path().join("f");
    std::fs::write(&path, content).expect("written");
    let raw = Raw::open(&path, &Version::of(&path)?)?;
    let mut out = Vec::new();
    raw.content()?.read_to_end(&mut out).map_err(|e| unwrap(e, &path))?;
    assert_eq!(raw.finish()?, blake3::hash(content).to_hex().to_string(), "the digest is that of the raw bytes");
    assert_eq!(raw.bytes_read(), content.len() as u64);
    Ok(out)
}

#[test]
fn content_comes_as_utf_8_whatever_the_encoding_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let utf_16 = |text: &str, big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let declared = "<?xml version='1.0' encoding='UTF-16'?><a>Ærø 🌊</a>";
    assert_eq!(read(&folder, b"plain").expect("read"), b"plain");
    assert_eq!(read(&folder, b"\xEF\xBB\xBFplain").expect("read"), b"plain");
    assert_eq!(read(&folder, b"").expect("read"), b"");
    assert_eq!(read(&folder, &[&[0xFF, 0xFE][..], &utf_16(declared, false)].concat()).expect("read"), declared.as_bytes());
    assert_eq!(read(&folder, &[&[0xFE, 0xFF][..], &utf_16(declared, true)].concat()).expect("read"), declared.as_bytes());
    assert_eq!(read(&folder, &utf_16(declared, true)).expect("without a mark"), declared.as_bytes());
    let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>\xC6r\xF8</a>";
    assert!(read(&folder, latin).expect("read").ends_with("<a>Ærø</a>".as_bytes()));
    let ascii = b"<?xml version='1.0' encoding='us-ascii'?><a>\xC3\xA6</a>";
    assert_eq!(read(&folder, ascii).expect("ASCII is a part of UTF-8"), ascii);
}

#[test]
fn long_texts_are_transcoded_over_every_buffer_boundary() {
    let folder = tempfile::tempdir().expect("a folder");
    let text: String = (0..200_000).map(|i| ['a', 'é', '水', '🌊'][i % 4]).collect();
    let mut content = vec![0xFF, 0xFE];
    content.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    assert_eq!(read(&folder, &content).expect("read"), text.as_bytes());
}

#[test]
fn bytes_that_are_no_text_stay_invalid_instead_of_becoming_another_character() {
    let folder = tempfile::tempdir().expect("a folder");
    let found = read(&folder, b"\xFF\xFEa\x00\x00\xD8b\x00").expect("read");
    assert_eq!(found, b"a\xFFb");
    assert!(std::str::from_utf8(&found).is_err());
}

#[test]
fn an_unknown_encoding_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = read(&folder, b"<?xml version='1.0' encoding='klingon'?><a/>").expect_err("unknown");
    assert_eq!(error.code(), "encoding_unknown");
    assert!(error.message().contains("klingon"));
}

#[test]
fn a_version_that_is_gone_is_not_opened_and_a_replaced_file_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("f");
    std::fs::write(&path, "one").expect("written");
    let version = Version::of(&path).expect("there");
    let raw = Raw::open(&path, &version).expect("opens");
    std::fs::write(folder.path().join("g"), "two").expect("written");
    std::fs::rename(folder.path().join("g"), &path).expect("replaced");
    assert_eq!(raw.finish().expect_err("replaced").code(), "file_changed");
    assert_eq!(Raw::open(&path, &version).err().expect("another file").code(), "file_changed");
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(Version::of(&path).expect_err("gone").code(), "file_missing");
}

#[test]
fn a_file_that_grows_while_it_is_read_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("f");
    std::fs::write(&path, "one").expect("written");
    let raw = Raw::open(&path, &Version::of(&path).expect("there")).expect("opens");
    std::fs::write(&path, "one and more").expect("written");
    assert_eq!(raw.finish().expect_err("grown").code(), "file_changed");
}

#[test]
fn damaged_compression_is_told_apart_from_other_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut zipped = zstd::encode_all(&b"some text that is long enough"[..], 1).expect("compressed");
    zipped.truncate(zipped.len() - 3);
    assert_eq!(read(&folder, &zipped).expect_err("short").code(), "compression_broken");
    assert_eq!(read(&folder, b"\x1F\x8B\x08garbage and more of it").expect_err("garbage").code(), "compression_broken");
}
