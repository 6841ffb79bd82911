//! Statements that change the catalog and the jobs, one file a family. Each checks everything it
//! can before the one command that changes the control state.

mod add_key;
mod drop;
mod explain_job;
mod job;
mod mapping;
mod options;
mod show;
mod snapshot;
pub mod table;
mod table_options;
mod upkeep;
mod view;

pub use add_key::alter as alter_table;
pub use drop::drop_objects;
pub use explain_job::explain as explain_job;
pub use job::{alter as alter_job, create as create_job, dag_of as job_dag, plan_again};
pub use mapping::create as create_mapping;
pub use show::{objects as show_objects, text_rows};
pub use snapshot::export as export_job;
pub use upkeep::run as run_upkeep;
pub use view::create as create_view;
