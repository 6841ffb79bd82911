//! The control state is all or nothing, never reuses an id, and keeps the life cycle of jobs.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema};

use super::{
    super::{
        exports::ExportRequest,
        snapshots::{JobSnapshots, SnapshotCommand, SnapshotRecord},
    },
    *,
};

fn table(name: &str) -> Command {
    Command::CreateTable(TableRecord::new(name, Arc::new(Schema::empty()), &[]))
}

fn view(name: &str, replace: bool) -> Command {
    let record = ViewRecord {
        id: ObjectId(0),
        name: ObjectName::public(name),
        sql: "select 1".into(),
        columns: vec![],
        schema: Arc::new(Schema::empty()),
    };
    Command::CreateView { record, replace }
}

fn drop_of(kind: &'static str, name: &str) -> Command {
    Command::DropRelation { kind, name: ObjectName::public(name) }
}

fn job(name: &str) -> Command {
    Command::CreateJob(JobRecord {
        id: ObjectId(0),
        name: name.into(),
        sql: String::new(),
        options: BTreeMap::new(),
        settings: BTreeMap::new(),
        status: JobStatus::NotRunning,
        created_at: 1,
        started_at: None,
        restarts: 0,
        last_error: None,
        snapshot_table: ObjectId(0),
        snapshots: JobSnapshots::default(),
    })
}

fn status(id: ObjectId, status: JobStatus, error: Option<&str>) -> Command {
    let error = error.map(|message| JobError::new("XX000", message));
    Command::SetJobStatus { id, status, at: 5, error }
}

#[test]
fn names_are_unique_across_kinds() {
    let mut state = ControlState::default();
    state.apply(&table("t")).unwrap();
    for command in [table("t"), view("t", false), view("t", true)] {
        let error = state.apply(&command).unwrap_err();
        assert_eq!(error.to_string(), "relation \"t\" already exists");
    }
    assert_eq!(state.version, 1, "a refused command changes nothing");
    let error = state.apply(&drop_of("view", "t")).unwrap_err();
    assert_eq!(error.to_string(), "\"t\" is not a view");
    let error = state.apply(&drop_of("table", "u")).unwrap_err();
    assert_eq!(error.to_string(), "table \"u\" does not exist");
}

#[test]
fn ids_are_never_reused() {
    let mut state = ControlState::default();
    let first = state.apply(&table("t")).unwrap();
    assert_eq!(state.apply(&drop_of("table", "t")).unwrap(), first);
    let second = state.apply(&table("t")).unwrap();
    let third = state.apply(&job("j")).unwrap();
    let fourth = state.apply(&view("v", false)).unwrap();
    let fifth = state.apply(&view("v", true)).unwrap();
    // A job draws a second one, for its manifests.
    assert_eq!([first.0, second.0, third.0, fourth.0, fifth.0], [1, 2, 3, 5, 6]);
}

#[test]
fn jobs_leave_the_catalog_version_alone() {
    let mut state = ControlState::default();
    state.apply(&table("t")).unwrap();
    let id = state.apply(&job("j")).unwrap();
    state.apply(&status(id, JobStatus::Starting, None)).unwrap();
    let away = JobError::new("08001", "broker away");
    state.apply(&Command::SetJobError { id, error: Some(away.clone()) }).unwrap();
    assert_eq!(state.job("j").unwrap().last_error, Some(away));
    assert_eq!((state.version, state.catalog_version), (4, 1));
    assert!(matches!(state.apply(&job("j")), Err(Error::AlreadyExists { kind: "job", .. })));
    state.apply(&Command::DropJob(id)).unwrap();
    assert!(matches!(state.apply(&Command::DropJob(id)), Err(Error::NotFound { .. })));
}

#[test]
fn a_job_lives_the_life_of_its_state_machine() {
    use JobStatus::*;
    let mut state = ControlState::default();
    let id = state.apply(&job("j")).unwrap();
    let life = [
        (Starting, None),
        (NotRunning, Some("member left")),
        (Starting, None),
        (Running, None),
        (Suspended, None),
        (SuspendedExportingSnapshot, None),
        (Suspended, None),
        (NotRunning, None),
        (Starting, None),
        (Running, None),
        (Completing, None),
        (Completed, None),
    ];
    for (next, error) in life {
        state.apply(&status(id, next, error)).unwrap();
    }
    let job = state.job("j").unwrap();
    assert_eq!((job.restarts, job.started_at, &job.last_error), (2, Some(5), &None));
    let error = state.apply(&status(id, Starting, None)).unwrap_err();
    assert_eq!(error.to_string(), "job \"j\" cannot go from COMPLETED to STARTING");
}

#[test]
fn terminal_states_have_no_way_out_and_failed_is_always_near() {
    use JobStatus::*;
    let all = [
        NotRunning,
        Starting,
        Running,
        Suspended,
        SuspendedExportingSnapshot,
        Completing,
        Failed,
        Completed,
    ];
    for from in all {
        assert_eq!(from.may_become(Failed), !from.is_terminal(), "{}", from.word());
        assert_eq!(all.iter().any(|to| from.may_become(*to)), !from.is_terminal());
        assert!(!from.may_become(from));
    }
    assert!(!NotRunning.may_become(Running) && !Suspended.may_become(Running));
}

#[test]
fn an_applied_command_is_announced_and_a_refused_one_is_not() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let control = Control::new(move |command, id, _| {
        sender.send((matches!(command, Command::DropRelation { .. }), id.0)).unwrap();
    });
    control.submit(&table("t")).unwrap();
    control.submit(&table("t")).unwrap_err();
    control.submit(&drop_of("table", "t")).unwrap();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [(false, 1), (true, 1)]);
    assert!(control.state().relations.is_empty());
}

#[test]
fn an_exported_snapshot_outlives_its_job_and_stays_while_another_starts_from_it() {
    let mut state = ControlState::default();
    let first = state.apply(&job("a")).unwrap();
    let snapshot = |change| Command::Snapshot(first, change);
    let record = SnapshotRecord {
        id: 1,
        execution: 1,
        started_at: 1,
        committed_at: 2,
        chunks: 3,
        bytes: 4,
        digest: 5,
        commits: true,
    };
    state.apply(&snapshot(SnapshotCommand::StartExecution)).unwrap();
    state.apply(&snapshot(SnapshotCommand::Begin { execution: 1 })).unwrap();
    let export = |name: &str, snapshot, replace| {
        let name = name.to_owned();
        Command::ExportSnapshot(ExportRequest { name, replace, job: first, snapshot, at: 7 })
    };
    let error = state.apply(&export("s", 1, true)).unwrap_err();
    assert_eq!(error.to_string(), "snapshot 1 of job \"a\" is not kept any more");
    state.apply(&snapshot(SnapshotCommand::Commit(record.clone()))).unwrap();
    let id = state.apply(&export("s", 1, false)).unwrap();
    let error = state.apply(&export("s", 1, false)).unwrap_err();
    assert_eq!((error.sqlstate(), &*error.to_string()), ("42710", "snapshot \"s\" already exists"));

    state.apply(&Command::DropJob(first)).unwrap();
    assert_eq!(state.exported_of(first), [1]);
    let kept = &state.exports["s"];
    assert_eq!((&kept.snapshot, &*kept.job_name, kept.exported_at), (&record, "a", 7));

    let Command::CreateJob(mut next) = job("b") else { unreachable!() };
    next.snapshots.initial = Some(id);
    let next = state.apply(&Command::CreateJob(next)).unwrap();
    let error = state.apply(&Command::DropSnapshot("s".into())).unwrap_err();
    let text = "snapshot \"s\" is needed by job \"b\" until that has one of its own";
    assert_eq!((error.sqlstate(), &*error.to_string()), ("55000", text));
    for change in [
        SnapshotCommand::StartExecution,
        SnapshotCommand::Begin { execution: 1 },
        SnapshotCommand::Commit(record),
    ] {
        state.apply(&Command::Snapshot(next, change)).unwrap();
    }
    assert_eq!(state.apply(&Command::DropSnapshot("s".into())).unwrap(), id);
    let error = state.apply(&Command::DropSnapshot("s".into())).unwrap_err();
    assert_eq!((error.sqlstate(), &*error.to_string()), ("42704", "snapshot \"s\" does not exist"));
}

#[test]
fn commands_and_state_survive_being_written_down() {
    let columns = Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("price", DataType::Decimal128(38, 18), true)
            .with_metadata([("sql".to_owned(), "numeric".to_owned())].into()),
    ]);
    let columns = Arc::new(columns);
    let mapping = MappingRecord {
        id: ObjectId(0),
        name: ObjectName::public("trades"),
        external_name: "topic \"ü\"".to_owned(),
        connector: "Kafka".to_owned(),
        options: [("valueFormat".to_owned(), "json".to_owned())].into(),
        schema: Arc::clone(&columns),
        columns: Vec::new(),
        watermark: Some((1, -5)),
    };
    let error = JobError::new("08006", "gone");
    let at =
        ExportRequest { name: "s".into(), replace: false, job: ObjectId(4), snapshot: 1, at: 9 };
    let record = SnapshotRecord {
        id: 1,
        execution: 1,
        started_at: 1,
        committed_at: 2,
        chunks: 3,
        bytes: 4,
        digest: u64::MAX,
        commits: true,
    };
    let commands = [
        Command::Assign(vec![0, 1, 0]),
        Command::Reassign { partition: PartitionId(2), owner: 1 },
        Command::CreateTable(TableRecord::new("t", columns, &[0])),
        Command::CreateMapping { record: mapping, replace: false },
        view("v", true),
        job("j"),
        Command::Snapshot(ObjectId(4), SnapshotCommand::StartExecution),
        Command::Snapshot(ObjectId(4), SnapshotCommand::Begin { execution: 1 }),
        Command::Snapshot(ObjectId(4), SnapshotCommand::Commit(record)),
        Command::ExportSnapshot(at),
        Command::SetJobError { id: ObjectId(4), error: Some(error) },
        Command::ReserveId,
        drop_of("view", "v"),
    ];
    let (mut state, mut copy) = (ControlState::default(), ControlState::default());
    for command in &commands {
        state.apply(command).unwrap();
        let bytes = postcard::to_stdvec(command).unwrap();
        copy.apply(&postcard::from_bytes(&bytes).unwrap()).unwrap();
    }
    assert_eq!(format!("{copy:?}"), format!("{state:?}"));
    let bytes = postcard::to_stdvec(&state).unwrap();
    let read: ControlState = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(format!("{read:?}"), format!("{state:?}"));
}
