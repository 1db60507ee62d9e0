use super::*;

fn found(inputs: &[String], folder: &Path) -> Vec<(String, String)> {
    let files = list(inputs, folder, None, &Events::silent()).expect("listed");
    let base = std::fs::canonicalize(folder).expect("there").display().to_string();
    files.into_iter().map(|f| (f.address.strip_prefix(&base).expect("inside").to_owned(), f.table)).collect()
}

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, file).expect("written");
    }
    folder
}

#[test]
fn folders_are_walked_in_order_without_hidden_and_underscored_names() {
    let folder = folder(&["in/b.csv", "in/a/x.csv", "in/.hidden", "in/_SUCCESS", "in/_tmp/y.csv", "in/c.csv.gz"]);
    let files = found(&[folder.path().join("in").display().to_string()], folder.path());
    let expected = [("/in/a/x.csv", "in"), ("/in/b.csv", "in"), ("/in/c.csv.gz", "in")];
    assert_eq!(files, expected.map(|(a, t)| (a.to_owned(), t.to_owned())));
}

#[test]
fn a_file_is_found_once_and_takes_the_name_of_its_folder_only_among_many() {
    let folder = folder(&["one/MyFile.v2.json.gz", "two/a.csv", "two/b.csv"]);
    let input = |name: &str| folder.path().join(name).display().to_string();
    let files = found(&[input("one/*"), input("two/*.csv"), input("two/a.csv")], folder.path());
    let expected = [("/one/MyFile.v2.json.gz", "my_file_v2"), ("/two/a.csv", "two"), ("/two/b.csv", "two")];
    assert_eq!(files, expected.map(|(a, t)| (a.to_owned(), t.to_owned())));
}

#[test]
fn a_name_with_pattern_characters_that_exists_is_that_file() {
    let folder = folder(&["a[1].csv"]);
    let files = found(&[folder.path().join("a[1].csv").display().to_string()], folder.path());
    assert_eq!(files, [("/a[1].csv".to_owned(), "a_1_".to_owned())]);
}

#[cfg(unix)]
#[test]
fn links_lead_to_one_address_and_never_in_circles() {
    let folder = folder(&["in/a.csv"]);
    std::os::unix::fs::symlink(folder.path().join("in"), folder.path().join("in/again")).expect("linked");
    std::os::unix::fs::symlink(folder.path().join("in/a.csv"), folder.path().join("in/b.csv")).expect("linked");
    let files = found(&[folder.path().join("in").display().to_string()], folder.path());
    assert_eq!(files.len(), 1);
}
