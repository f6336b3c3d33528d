//! What `rerack restore` refuses: nothing is written then, and the complaint says what to do. Needs root.

mod support;

use std::fs;

use support::{Bench, Bystanders, Ended, NODE, Parts, can_run, damage, scrub, tool, write_at};

/// A bench whose target is not blank, and the complaints so far.
struct Refusals {
    bench: Bench,
    untouched: String,
    bystanders: Bystanders,
    complaints: String,
}

impl Refusals {
    fn new() -> Self {
        let bench = Bench::with_snapshot_of(Parts::Root);
        fs::rename(bench.path("repo"), bench.path("good")).unwrap();
        bench.blank_image("new.img", 200);
        write_at(&bench.path("new.img"), 4096, b"what somebody wrote there");
        let untouched = bench.sha256("new.img");
        let bystanders = Bystanders::of(&bench);
        let refusals = Self { bench, untouched, bystanders, complaints: String::new() };
        refusals.fresh_repository();
        refusals
    }

    fn fresh_repository(&self) {
        let _ = fs::remove_dir_all(self.bench.path("repo"));
        tool("cp", &["-a", &self.bench.text_path("good"), &self.bench.text_path("repo")]);
    }

    /// The digest of the plan of the repository as it is.
    fn digest(&self) -> String {
        let plan = self.bench.rerack(&["plan", NODE, "--target", "new.img"]).with_code(0);
        plan.lines().find_map(|line| line.strip_prefix("Plan ")).unwrap().trim().to_owned()
    }

    #[track_caller]
    fn refused(&mut self, case: &str, arguments: &[&str]) {
        let ended: Ended = self.bench.rerack(arguments);
        let complaint = scrub(&self.bench, &ended.complaint(1));
        assert_eq!(self.bench.sha256("new.img"), self.untouched, "{case}: the target was written to");
        assert!(complaint.contains("\nhint: "), "{case}: it does not say what to do now: {complaint}");
        self.complaints.push_str(&format!("{case}\n{complaint}\n"));
    }

    /// Everything that was complained of; by now no other disk is touched either.
    #[track_caller]
    fn finish(self) -> String {
        self.bystanders.are_untouched(&self.bench);
        self.complaints
    }

    /// Damages the repository, sees a plan that was read before refused, and mends it.
    #[track_caller]
    fn refused_after(&mut self, case: &str, damage: impl FnOnce(&Bench)) {
        let digest = self.digest();
        damage(&self.bench);
        self.refused(case, &["restore", NODE, "--target", "new.img", "--confirm", &digest]);
        self.fresh_repository();
    }
}

#[test]
fn what_nobody_agreed_to_is_not_done() {
    if !can_run() {
        return;
    }
    let mut refusals = Refusals::new();
    let digest = refusals.digest();
    let restore = |more: &[&'static str]| [&["restore", NODE, "--target", "new.img"], more].concat();
    let wrong = "0".repeat(64);
    refusals.refused("without --confirm", &restore(&[]));
    refusals.refused("another plan's digest", &["restore", NODE, "--target", "new.img", "--confirm", &wrong]);
    refusals.refused("a shortened digest", &["restore", NODE, "--target", "new.img", "--confirm", &digest[..60]]);
    refusals.refused("no such target", &["restore", NODE, "--target", "nowhere.img", "--confirm", &wrong]);
    refusals.refused("a directory as target", &["restore", NODE, "--target", "good", "--confirm", &wrong]);
    refusals.refused("a disk that the node has not", &restore(&["--map", "disk7=new.img", "--confirm", "0"]));
    insta::assert_snapshot!("consent", refusals.finish());
}

#[test]
fn fault_49_a_disk_that_does_not_fit_is_refused_with_the_numbers() {
    if !can_run() {
        return;
    }
    let mut refusals = Refusals::new();
    refusals.bench.blank_image("small.img", 150);
    let small = refusals.bench.sha256("small.img");
    let digest = refusals.digest();
    refusals.refused("a target that is too small", &["restore", NODE, "--target", "small.img", "--confirm", &digest]);
    refusals.refused(
        "sectors of another size",
        &["restore", NODE, "--target", "new.img", "--sector-size", "4096", "--confirm", &digest],
    );
    assert_eq!(refusals.bench.sha256("small.img"), small);
    insta::assert_snapshot!("fit", refusals.finish());
}

#[test]
fn fault_40_a_repository_that_is_not_whole_is_noticed_before_anything_is_written() {
    if !can_run() {
        return;
    }
    let mut refusals = Refusals::new();
    refusals.refused("unknown node", &["restore", "db-01", "--target", "new.img"]);
    refusals.refused("unknown snapshot", &["restore", "web-03@0123", "--target", "new.img"]);
    refusals.refused("no repository", &["restore", NODE, "--target", "new.img", "--dir", "nowhere"]);
    refusals.refused_after("an empty directory", |bench| {
        fs::remove_dir_all(bench.path("repo")).unwrap();
        fs::create_dir(bench.path("repo")).unwrap();
    });
    for (case, harm) in damage::CASES {
        refusals.refused_after(case, harm);
    }
    refusals.refused_after("a newer repository", |bench| {
        damage::replace(&bench.path("repo/repository.json"), "\"format\": 1", "\"format\": 2");
    });
    insta::assert_snapshot!("repository", refusals.finish());
}
