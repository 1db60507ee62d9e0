use std::sync::{Arc, Mutex};

use longshore_core::event::{Observer, RunEvent};

use super::*;

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn event(&self, event: &RunEvent) {
        if let RunEvent::Warning { text } = event {
            self.0.lock().expect("not poisoned").push(text.clone());
        }
    }
}

struct Desk {
    folder: tempfile::TempDir,
    warnings: Arc<Warnings>,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), warnings: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn todo(&self, name: &str, content: &str, action: Action) -> serde_json::Value {
        let digest = blake3::hash(content.as_bytes()).to_hex().to_string();
        let file = FileTodo { path: self.path(name), digest, size: content.len() as u64, action };
        serde_json::to_value(Todo { files: vec![file] }).expect("as JSON")
    }

    fn act(&self, todo: &serde_json::Value) {
        act(todo, "run", &Events::new(self.warnings.clone())).expect("done");
    }

    fn warned(&self) -> usize {
        self.warnings.0.lock().expect("not poisoned").len()
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|e| e.expect("listed").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_that_landed_is_deleted_and_repeating_it_is_harmless() {
    let desk = Desk::new();
    std::fs::write(desk.path("f"), "abc").expect("written");
    let todo = desk.todo("f", "abc", Action::Delete);
    desk.act(&todo);
    assert!(desk.names("").is_empty());
    desk.act(&todo);
    assert_eq!(desk.warned(), 0);
}

#[test]
fn a_file_that_changed_since_is_put_back_with_a_warning() {
    for changed in ["abd", "longer"] {
        let desk = Desk::new();
        std::fs::write(desk.path("f"), changed).expect("written");
        desk.act(&desk.todo("f", "abc", Action::Delete));
        assert_eq!(desk.names(""), ["f"]);
        assert_eq!(std::fs::read_to_string(desk.path("f")).expect("there"), changed);
        assert_eq!(desk.warned(), 1);
    }
}

#[test]
fn a_new_file_under_the_name_of_a_claimed_one_stays() {
    let desk = Desk::new();
    let todo = desk.todo("f", "abc", Action::Move(desk.path("done")));
    std::fs::write(desk.path("f"), "abc").expect("written");
    let parsed: Todo = serde_json::from_value(todo.clone()).expect("ours");
    // A crash right after the claim; then the next delivery arrives.
    std::fs::rename(desk.path("f"), claimed_name(&parsed.files[0])).expect("claimed");
    std::fs::write(desk.path("f"), "next").expect("written");
    desk.act(&todo);
    assert_eq!(desk.names("done"), ["f"]);
    assert_eq!(std::fs::read_to_string(desk.path("f")).expect("the next one"), "next");
    assert_eq!(desk.names(""), ["done", "f"]);
}

#[test]
fn a_moved_file_never_replaces_another_one() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("done")).expect("made");
    std::fs::write(desk.path("done/f.tar.gz"), "older").expect("written");
    std::fs::write(desk.path("f.tar.gz"), "abc").expect("written");
    let todo = desk.todo("f.tar.gz", "abc", Action::Move(desk.path("done")));
    desk.act(&todo);
    desk.act(&todo);
    let names = desk.names("done");
    assert_eq!(names.len(), 2);
    assert!(names[0].starts_with("f-") && names[0].ends_with("-1.tar.gz"), "{names:?}");
    assert_eq!(std::fs::read_to_string(desk.path("done/f.tar.gz")).expect("there"), "older");
}

#[test]
fn a_move_that_died_after_copying_is_finished_by_the_next_try() {
    let desk = Desk::new();
    let todo = desk.todo("f", "abc", Action::Move(desk.path("done")));
    let parsed: Todo = serde_json::from_value(todo.clone()).expect("ours");
    std::fs::create_dir(desk.path("done")).expect("made");
    std::fs::write(claimed_name(&parsed.files[0]), "abc").expect("claimed");
    std::fs::write(desk.path("done/f"), "abc").expect("copied");
    desk.act(&todo);
    assert_eq!((desk.names("done"), desk.names("")), (vec!["f".to_owned()], vec!["done".to_owned()]));
}

#[test]
fn a_dead_letter_that_died_after_its_reason_is_finished_under_the_same_name() {
    let desk = Desk::new();
    let refusal = Refusal { code: "xml_invalid".into(), reason: "why".into(), place: Default::default() };
    let todo = desk.todo("f.xml", "abc", Action::DeadLetter(desk.path("dead"), refusal.clone()));
    let parsed: Todo = serde_json::from_value(todo.clone()).expect("ours");
    std::fs::write(desk.path("f.xml"), "abc").expect("written");
    std::fs::create_dir(desk.path("dead")).expect("made");
    let target = desk.path("dead").join(numbered(&desk.path("f.xml"), &parsed.files[0].digest, 1));
    assert!(explain(&parsed.files[0], &target, &refusal, "earlier").expect("explained"));
    desk.act(&todo);
    let names = desk.names("dead");
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(std::fs::read_to_string(target).expect("kept"), "abc");
}

#[cfg(target_os = "linux")]
#[test]
fn a_move_to_another_file_system_copies_verifies_and_then_deletes() {
    use std::os::unix::fs::MetadataExt;

    let desk = Desk::new();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: there is no /dev/shm to be another file system");
        return;
    };
    let device = |path: &Path| std::fs::metadata(path).expect("there").dev();
    if device(elsewhere.path()) == device(desk.folder.path()) {
        eprintln!("SKIPPED: /dev/shm is the file system of the temporary folder");
        return;
    }
    std::fs::write(desk.path("f.xml"), "abc").expect("written");
    std::fs::write(elsewhere.path().join(".f.xml.part"), "half of an earlier tr").expect("left by a crash");
    let todo = desk.todo("f.xml", "abc", Action::Move(elsewhere.path().to_owned()));
    desk.act(&todo);
    desk.act(&todo);
    assert_eq!(std::fs::read_to_string(elsewhere.path().join("f.xml")).expect("moved"), "abc");
    assert_eq!(std::fs::read_dir(elsewhere.path()).expect("listed").count(), 1, "no draft is left");
    assert!(desk.names("").is_empty());
}
