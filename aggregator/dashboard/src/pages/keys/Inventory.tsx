// The inventory: every key the agents found, filtered and sorted by the aggregator, paged by cursor.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { api } from '../../api/client';
import type { Key } from '../../api/types';
import { plural, thousands } from '../../lib/format';
import { href } from '../../routes';
import { useResource } from '../../state/resource';
import { ColumnChooser } from '../../ui/columns';
import { Panel, Shown } from '../../ui/Panel';
import { Table } from '../../ui/Table';
import { question, questionKey, usualSort, type Counts } from './asked';
import { KEY_COLUMNS } from './columns';
import { Filters } from './Filters';
import { NoKeys } from './NoKeys';

const PAGE = 100;

export function Inventory({ counts }: { counts: Counts | undefined }): JSX.Element {
  const asked = questionKey();
  const [pages, setPages] = useState({ asked, count: 1 });
  const count = pages.asked === asked ? pages.count : 1;
  // More rows are asked for in one answer rather than page by page, so that a refresh cannot tear the list apart.
  const resource = useResource(`${asked} ${count}`, (signal) => api.keys(question(count * PAGE), signal));
  return (
    <Panel
      title="Inventory"
      name="inventory"
      note={counts && counts.own > 0 ? `${plural(counts.own, 'key')} of your own` : undefined}
      actions={<ColumnChooser table="keys" columns={KEY_COLUMNS} />}
    >
      <div class="filters">
        <Filters counts={counts} />
        <span class="dim filter-count" role="status">
          {resource.data && resource.data.total > 0 ? plural(resource.data.total, 'match', 'matches') : ''}
        </span>
      </div>
      <Shown resource={resource} what="The key inventory" height={320}>
        {(data) =>
          data.keys.length === 0 ? (
            counts && <NoKeys counts={counts} />
          ) : (
            <>
              <Table
                id="keys"
                caption="Keys and certificates"
                columns={KEY_COLUMNS}
                rows={data.keys}
                rowKey={(key: Key) => key.id}
                to={(key) => href(`/keys/${key.id}`)}
                sort={{ param: 'sort', initial: usualSort(), byServer: true }}
              />
              {data.next_cursor !== null && (
                <div class="load-more">
                  <button type="button" class="button" onClick={() => setPages({ asked, count: count + 1 })}>
                    Load more
                  </button>
                  <span class="dim">
                    {thousands(data.keys.length)} of {thousands(data.total)}
                  </span>
                </div>
              )}
            </>
          )
        }
      </Shown>
    </Panel>
  );
}
