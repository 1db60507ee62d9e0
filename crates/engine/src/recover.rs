//! What a run does before it reads anything: marks compared, journalled commits published, dead attempts swept.

use longshore_core::Result;
use longshore_core::commit::Entry;
use longshore_core::event::RunEvent;

use crate::run::Load;

impl Load {
    /// Rolls every open entry forward, in order of N, then removes what attempts left that were never journalled.
    pub(crate) async fn recover(&self, open: Vec<Entry>) -> Result<()> {
        let mut tables: Vec<String> = open.iter().flat_map(Entry::tables).collect();
        tables.sort();
        tables.dedup();
        self.session().check_marks(&tables).await?;
        for entry in open {
            let n = entry.n;
            self.roll_forward(entry).await?;
            self.session().cx.events.send(RunEvent::Recovered { n });
        }
        self.publisher.sweep(&[]).await
    }
}
