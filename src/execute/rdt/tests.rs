use std::fs;
use std::os::fd::AsRawFd;

use super::*;

/// A directory tree that looks like resctrl, and behaves so when directories are
/// made and removed.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("capsid-rdt-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        make(&root).unwrap();
        fs::create_dir(root.join("info")).unwrap();
        fs::write(root.join("info/last_cmd_status"), "ok\n").unwrap();
        Self(root)
    }

    fn resctrl(&self) -> Resctrl {
        Resctrl {
            root: File::open(&self.0).unwrap().into(),
            make: |root, path| make(&below(root, path)),
            remove: |root, path| fs::remove_dir_all(below(root, path)),
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    /// Enters, and gives all that was noted.
    fn enter(&self, plan: &RdtPlan) -> (Result<()>, Vec<RdtRecord>) {
        let mut noted = Vec::new();
        let outcome = self.resctrl().enter(plan, 7, &mut |record| {
            noted.push(record.clone());
            Ok(())
        });
        (outcome, noted)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn below(root: BorrowedFd<'_>, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd())).join(path)
}

fn make(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::create_dir(path.join("mon_groups"))?;
    fs::write(path.join("tasks"), "")?;
    fs::write(path.join("schemata"), "L3:0=fff;1=fff\n")
}

fn plan(class: Option<&str>, own: bool, schemata: &[&str]) -> RdtPlan {
    RdtPlan {
        class: class.map(str::to_owned),
        own,
        schemata: schemata.iter().map(|line| format!("{line}\n")).collect(),
        group: None,
    }
}

#[test]
fn a_class_is_made_written_joined_and_removed() {
    let tree = Tree::new("made");
    let mut wanted = plan(Some("web"), true, &["L3:0=f;1=f0"]);
    wanted.group = Some("web".into());
    let (outcome, noted) = tree.enter(&wanted);
    outcome.unwrap();
    assert_eq!(tree.read("web/schemata"), "L3:0=f;1=f0\n");
    assert_eq!(tree.read("web/mon_groups/web/tasks"), "7\n");
    assert_eq!(tree.read("web/tasks"), "", "only in its group");
    // Noted before each directory is made.
    assert!(noted[0].made_class && !noted[0].made_group);
    let record = noted.last().unwrap();
    assert!(record.made_group);
    tree.resctrl().join(record, 8).unwrap();
    assert_eq!(tree.read("web/mon_groups/web/tasks"), "8\n");
    tree.resctrl().leave(record).unwrap();
    assert!(!tree.0.join("web").exists());
    tree.resctrl().leave(record).unwrap();
}

#[test]
fn a_class_that_is_there_must_match_and_is_left() {
    let tree = Tree::new("there");
    make(&tree.0.join("gold")).unwrap();
    let (outcome, noted) = tree.enter(&plan(Some("gold"), false, &["L3:0=f"]));
    let text = outcome.unwrap_err().to_string();
    assert!(
        text.contains("L3:0 is fff there, and f is asked for"),
        "{text}"
    );
    assert_eq!(noted, []);
    let (outcome, noted) = tree.enter(&plan(Some("gold"), false, &["L3:0=fff"]));
    outcome.unwrap();
    assert_eq!(tree.read("gold/tasks"), "7\n");
    assert!(!noted[0].made_class);
    tree.resctrl().leave(&noted[0]).unwrap();
    assert!(tree.0.join("gold").exists());
}

#[test]
fn a_class_that_is_only_named_must_be_there() {
    let tree = Tree::new("named");
    let (outcome, noted) = tree.enter(&plan(Some("gold"), false, &[]));
    let text = outcome.unwrap_err().to_string();
    assert!(
        text.contains("gold") && text.contains("does not exist"),
        "{text}"
    );
    assert_eq!(noted, []);
    assert!(!tree.0.join("gold").exists());
}

#[test]
fn the_class_of_everybody_is_never_made_or_removed() {
    let tree = Tree::new("root");
    let mut wanted = plan(None, false, &[]);
    wanted.group = Some("web".into());
    let (outcome, noted) = tree.enter(&wanted);
    outcome.unwrap();
    assert_eq!(tree.read("mon_groups/web/tasks"), "7\n");
    tree.resctrl().leave(noted.last().unwrap()).unwrap();
    assert!(tree.0.join("schemata").exists());
    assert!(!tree.0.join("mon_groups/web").exists());
}

#[test]
fn a_named_class_with_others_in_it_stays() {
    let tree = Tree::new("shared");
    let (outcome, noted) = tree.enter(&plan(Some("gold"), false, &["L3:0=f"]));
    outcome.unwrap();
    tree.resctrl().leave(&noted[0]).unwrap();
    assert!(tree.0.join("gold").exists(), "process 7 is in it");
    fs::write(tree.0.join("gold/tasks"), "").unwrap();
    tree.resctrl().leave(&noted[0]).unwrap();
    assert!(!tree.0.join("gold").exists());
}

#[test]
fn what_the_kernel_says_is_passed_on() {
    let tree = Tree::new("refused");
    fs::write(
        tree.0.join("info/last_cmd_status"),
        "mask f is not wide enough\n",
    )
    .unwrap();
    let record = RdtRecord {
        class: Some("absent".into()),
        ..RdtRecord::default()
    };
    let text = tree.resctrl().join(&record, 7).unwrap_err().to_string();
    assert!(
        text.contains("absent/tasks") && text.contains("mask f is not wide"),
        "{text}"
    );
}
