use super::*;
use crate::plan::cgroup::{CgroupPlan, Limit};

#[test]
fn events_are_found_by_their_whole_name() {
    let content = "populated 1\nfrozen 0\n";
    assert_eq!(event(content, "populated"), Some(true));
    assert_eq!(event(content, "frozen"), Some(false));
    assert_eq!(event(content, "froze"), None);
    assert_eq!(event("", "frozen"), None);
}

/// A group of its own for one test, below the writable cgroup2 directory that
/// `CAPSID_TEST_CGROUP` names; without that variable the test has nothing to do.
struct Ground {
    path: PathBuf,
    children: std::cell::RefCell<Vec<std::process::Child>>,
}

impl Ground {
    fn new(name: &str) -> Option<Self> {
        let base = PathBuf::from(std::env::var_os("CAPSID_TEST_CGROUP")?);
        let path = base.join(format!("capsid-test-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Some(Self {
            path,
            children: Vec::new().into(),
        })
    }

    /// The plan of `below/leaf` with these limits.
    fn plan(&self, below: &str, limits: Vec<Limit>) -> CgroupPlan {
        let path = self.path.join(below);
        CgroupPlan {
            mount: self.path.clone(),
            path,
            limits,
            devices: None,
            notes: Vec::new(),
            scope: None,
            owner: None,
        }
    }

    /// A process that sleeps in a cgroup.
    fn sleeper(&self, cgroup: &Path) -> i32 {
        let child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.children.borrow_mut().push(child);
        std::fs::write(cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
        pid
    }

    /// A controller that this machine has, with a file and a value for it.
    fn some_limit(&self) -> Option<Limit> {
        let have = std::fs::read_to_string(self.path.join("cgroup.controllers")).unwrap();
        let have: Vec<&str> = have.split_whitespace().collect();
        let known = [
            ("pids", "pids.max", "64"),
            ("hugetlb", "hugetlb.2MB.max", "2097152"),
        ];
        let (_, file, value) = known.into_iter().find(|(name, ..)| have.contains(name))?;
        Some(Limit::new(file, value, true))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for child in self.children.borrow_mut().iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let ground = Cgroup::open(&self.path).unwrap().unwrap();
        ground.freeze(false).unwrap();
        ground.remove().unwrap();
    }
}

#[test]
fn levels_and_controllers_are_made_and_limits_hold() {
    let Some(ground) = Ground::new("make") else {
        return;
    };
    let Some(limit) = ground.some_limit() else {
        return;
    };
    let plan = ground.plan("a.slice/b/leaf", vec![limit.clone()]);
    let made = make(&plan).unwrap();
    assert!(made.left_out.is_empty());
    let read = std::fs::read_to_string(plan.path.join(&limit.file)).unwrap();
    assert_eq!(read.trim(), limit.value);
    assert_eq!(made.cgroup.path(), plan.path);
    // Once more: it is there, it is empty, so it is used.
    make(&plan).unwrap();
    made.cgroup.remove().unwrap();
    assert!(Cgroup::open(&plan.path).unwrap().is_none());
    made.cgroup.remove().unwrap();
}

#[test]
fn a_missing_controller_is_named_and_nothing_is_left() {
    let Some(ground) = Ground::new("missing") else {
        return;
    };
    let plan = ground.plan("a/leaf", vec![Limit::new("nonesuch.max", "1", true)]);
    let text = make(&plan).unwrap_err().to_string();
    assert!(
        text.contains("controller nonesuch is not available"),
        "{text}"
    );
    assert!(
        text.contains(&format!("{}/cgroup.controllers", ground.path.display())),
        "{text}"
    );
    assert!(!ground.path.join("a").exists());
    let plan = ground.plan("a/leaf", vec![Limit::new("nonesuch.max", "1", false)]);
    assert_eq!(make(&plan).unwrap().left_out.len(), 1);
}

#[test]
fn a_refused_value_is_named_and_nothing_is_left() {
    let Some(ground) = Ground::new("refused") else {
        return;
    };
    let plan = ground.plan("leaf", vec![Limit::new("cgroup.max.depth", "many", true)]);
    let text = make(&plan).unwrap_err().to_string();
    assert!(text.contains("write many to"), "{text}");
    assert!(text.contains("leaf/cgroup.max.depth: write: "), "{text}");
    assert!(text.contains("(EINVAL)"), "{text}");
    assert!(!ground.path.join("leaf").exists());
}

#[test]
fn a_used_cgroup_is_refused_and_kept() {
    let Some(ground) = Ground::new("used") else {
        return;
    };
    let plan = ground.plan("leaf", Vec::new());
    let cgroup = make(&plan).unwrap().cgroup;
    cgroup.freeze(true).unwrap();
    let text = make(&plan).unwrap_err().to_string();
    assert!(
        text.contains("container's cgroup unexpectedly frozen"),
        "{text}"
    );
    cgroup.freeze(false).unwrap();
    ground.sleeper(&plan.path);
    let text = make(&plan).unwrap_err().to_string();
    assert!(
        text.contains("container's cgroup is not empty: 1 process(es) found"),
        "{text}"
    );
    assert!(plan.path.exists());
}

#[test]
fn processes_of_its_own_keep_a_cgroup_from_handing_down() {
    let Some(ground) = Ground::new("busy") else {
        return;
    };
    let Some(limit) = ground.some_limit() else {
        return;
    };
    make(&ground.plan("a", Vec::new())).unwrap();
    ground.sleeper(&ground.path.join("a"));
    let text = make(&ground.plan("a/leaf", vec![limit]))
        .unwrap_err()
        .to_string();
    assert!(text.contains("a/cgroup.subtree_control"), "{text}");
    assert!(text.contains("processes of its own"), "{text}");
    assert!(!ground.path.join("a/leaf").exists());
}

#[test]
fn freeze_reaches_what_is_below_and_kill_reaches_the_frozen() {
    let Some(ground) = Ground::new("freeze") else {
        return;
    };
    let cgroup = make(&ground.plan("leaf", Vec::new())).unwrap().cgroup;
    std::fs::create_dir_all(cgroup.path().join("in.ner/most")).unwrap();
    let mut pids = vec![ground.sleeper(cgroup.path())];
    pids.push(ground.sleeper(&cgroup.path().join("in.ner")));
    pids.push(ground.sleeper(&cgroup.path().join("in.ner/most")));
    pids.sort_unstable();
    assert_eq!(cgroup.pids().unwrap(), pids);
    assert!(cgroup.is_populated().unwrap());
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze(true).unwrap();
    assert!(cgroup.is_frozen().unwrap());
    let inner = std::fs::read_to_string(cgroup.path().join("in.ner/most/cgroup.events")).unwrap();
    assert_eq!(event(&inner, "frozen"), Some(true));
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
    assert!(!cgroup.path().exists());
    // Gone: every question has an answer that is not an error.
    assert!(cgroup.pids().unwrap().is_empty());
    assert!(!cgroup.is_populated().unwrap());
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.kill().unwrap();
}

#[test]
fn without_cgroup_kill_all_die_as_well() {
    let Some(ground) = Ground::new("oldkill") else {
        return;
    };
    let cgroup = make(&ground.plan("leaf", Vec::new())).unwrap().cgroup;
    std::fs::create_dir(cgroup.path().join("inner")).unwrap();
    ground.sleeper(cgroup.path());
    ground.sleeper(&cgroup.path().join("inner"));
    cgroup.kill_one_by_one().unwrap();
    assert!(cgroup.pids().unwrap().is_empty());
    assert!(!cgroup.is_frozen().unwrap());
}

#[test]
fn a_directory_elsewhere_is_not_a_cgroup() {
    let text = Cgroup::open(&std::env::temp_dir()).unwrap_err().to_string();
    assert!(text.contains("not on a cgroup2 file system"), "{text}");
    assert!(Cgroup::open(Path::new("/nonexistent")).unwrap().is_none());
}

/// Every limit that can be planned, on the controllers that this kernel has:
/// each file name, each value and each way of reading it back.
#[test]
fn the_kernel_takes_what_the_plan_says() {
    let Some(ground) = Ground::new("kernel") else {
        return;
    };
    let resources = serde_json::from_value(serde_json::json!({
        "pids": { "limit": 64 },
        "memory": { "limit": 50_000_001, "swap": 60_000_003, "reservation": 10_000_001 },
        "cpu": {
            "shares": 2048, "quota": 20_000, "period": 50_000, "burst": 1000,
            "cpus": "0,1,0", "mems": "0"
        },
        "unified": {
            "memory.high": "40M", "memory.min": "4096", "memory.oom.group": "1",
            "cgroup.max.depth": "3", "hugetlb.2MB.max": "2M"
        }
    }))
    .unwrap();
    let facts = crate::host::cgroup::CgroupFacts {
        mount: Some(ground.path.clone()),
        own: "/".into(),
    };
    let request = crate::plan::cgroup::Request {
        id: "leaf",
        path: None,
        resources: Some(&resources),
        devices: &[],
        device_filter: false,
    };
    let mut plan = crate::plan::cgroup::plan(&request, &facts).unwrap();
    assert_eq!(plan.limits.len(), 14);
    for limit in &mut plan.limits {
        limit.required = false;
    }
    let made = make(&plan).unwrap();
    let have = std::fs::read_to_string(plan.path.join("cgroup.controllers")).unwrap();
    for limit in &plan.limits {
        let controller = limit.controller.as_deref().unwrap_or("cgroup");
        let left_out = made.left_out.iter().any(|left| left.limit == *limit);
        let available = controller == "cgroup" || have.split_whitespace().any(|c| c == controller);
        assert_eq!(left_out, !available, "{limit}: {:?}", made.left_out);
    }
}

#[test]
fn a_limit_above_that_of_a_level_above_is_refused() {
    let Some(ground) = Ground::new("above") else {
        return;
    };
    let Some(limit) = ground.some_limit() else {
        return;
    };
    make(&ground.plan("parent", vec![limit.clone()])).unwrap();
    // Twice the limit and more.
    let more = Limit::new(&limit.file, format!("{}0", limit.value), true);
    let text = make(&ground.plan("parent/leaf", vec![more]))
        .unwrap_err()
        .to_string();
    let file = ground.path.join("parent").join(&limit.file);
    let expected = format!("{} is {}", file.display(), limit.value);
    assert!(text.contains(&expected), "{text}");
    assert!(!ground.path.join("parent/leaf").exists());
    make(&ground.plan("parent/leaf", vec![limit])).unwrap();
}
