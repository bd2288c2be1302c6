// A panel with one chart of metrics asked from the query API for the page's hosts and time.
// Decides names, colours and how many lines; the drawing is TimeSeries'.
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { api } from '../api/client';
import type { KeyEvent, QueryAnswer, QuerySeries, Rule } from '../api/types';
import { hostIndex } from '../lib/color';
import { withUnit } from '../lib/format';
import { marks } from '../lib/events';
import { extent } from '../lib/series';
import { sortRows } from '../lib/sort';
import { chartInterval, intervalText, lengthWords, rangeLength, rangeParams, rangeWords } from '../lib/time';
import type { Unit } from '../lib/units';
import { hostFilter, range, rangeKnown } from '../routes';
import { hostNames, useFleet } from '../state/fleet';
import { utc } from '../state/prefs';
import { useResource } from '../state/resource';
import { Icon } from '../ui/Icon';
import { EmptyState, Panel, Shown } from '../ui/Panel';
import { axisScale, type Line } from './plot';
import { CHART_HEIGHT, TimeSeries, type ChartData } from './TimeSeries';

export interface Query {
  metric: string;
  aggregation: string;
  group_by?: string;
  /** Which series: `name:value`, `name:!value`. */
  tag?: string;
  /** Says which of several metrics a line is: "in". */
  word?: string;
}

interface Props {
  title: string;
  queries: readonly Query[];
  unit: Unit;
  full?: number;
  rules: readonly Rule[];
  events: readonly KeyEvent[];
  /** Tags besides the host that tell lines apart, in order of preference; the first that a series has is used. */
  detail?: readonly string[];
}

/** More lines than this are a tangle: the highest are drawn, the table has all. */
const MOST_LINES = 12;

interface Found {
  line: Line;
  points: QuerySeries['points'];
}

function detailOf(series: QuerySeries, detail: readonly string[]): string | undefined {
  for (const name of detail) {
    const value = series.tags[name];
    if (value !== undefined) return value;
  }
  return undefined;
}

function linesOf(answers: readonly QueryAnswer[], props: Props, hosts: readonly string[]): Found[] {
  const perHost = new Map<string, number>();
  const found = sortRows(
    answers.flatMap((answer, index) => answer.series.map((series) => ({ series, word: props.queries[index]?.word }))),
    ({ series }) => series.tags['host'],
    false,
  );
  const several = new Set(found.map(({ series }) => series.tags['host'])).size > 1;
  return found.map(({ series, word }) => {
    const host = series.tags['host'] ?? 'all hosts';
    const dash = perHost.get(host) ?? 0;
    perHost.set(host, dash + 1);
    const parts = [detailOf(series, props.detail ?? []), word].filter((part): part is string => part !== undefined);
    // With one host its name says nothing that the parts do not.
    const label = parts.length === 0 || several ? [host, ...parts].join(' ') : parts.join(' ');
    return { line: { label, color: hostIndex(host, hosts), dash }, points: series.points };
  });
}

function highest(found: Found): number {
  return extent(found.points.map(([, value]) => value))?.high ?? -Infinity;
}

/** The unit, and what a point of the line is: `%, avg of 30 s`. */
function noteOf(suffix: string, interval: number, query: Query | undefined): string {
  return [suffix, `${query?.aggregation ?? ''} of ${lengthWords(interval)}`].filter((part) => part !== '').join(', ');
}

async function load(props: Props, signal: AbortSignal): Promise<QueryAnswer[]> {
  const host = hostFilter.peek();
  const asked = range.peek();
  const interval = intervalText(chartInterval(rangeLength(asked)));
  return Promise.all(
    props.queries.map((query) =>
      api.query(
        {
          metric_pattern: query.metric,
          aggregation: query.aggregation,
          group_by: query.group_by,
          interval,
          tag: [host === undefined ? undefined : `host:${host}`, query.tag].filter((tag) => tag !== undefined),
          ...rangeParams(asked),
        },
        signal,
      ),
    ),
  );
}

export function MetricChart(props: Props): JSX.Element {
  const { title, unit, full, queries, rules, events } = props;
  const fleet = useFleet();
  const [asTable, setAsTable] = useState(false);
  const asked = range.value;
  const interval = chartInterval(rangeLength(asked));
  const resource = useResource(rangeKnown.value ? JSON.stringify([queries, asked, hostFilter.value]) : null, (signal) =>
    load(props, signal),
  );
  const threshold = thresholdOf(rules, queries, unit);
  const shownMarks = useMemo(() => marks(events, rangeLength(asked) / 40), [events, asked]);
  const found = linesOf(resource.data ?? [], props, hostNames(fleet));
  const drawn = found.length > MOST_LINES && !asTable ? [...found].sort((a, b) => highest(b) - highest(a)).slice(0, MOST_LINES) : found;
  const first = resource.data?.[0];
  const data: ChartData = {
    lines: drawn.map(({ line }) => line),
    points: drawn.map(({ points }) => points),
    start: first?.start_time ?? 0,
    end: first?.end_time ?? 1,
    interval: first?.interval_ms ?? interval,
  };
  const rows = drawn.map(({ points }) => points.map(([, value]) => value));
  const suffix = axisScale({ ...data, rows, unit, full, threshold, marks: [] }).suffix;
  const actions = (
    <button
      type="button"
      class="icon-button"
      aria-pressed={asTable}
      aria-label={`Show ${title} as table`}
      title={asTable ? 'Show as chart' : 'Show as table'}
      onClick={() => setAsTable(!asTable)}
    >
      <Icon name={asTable ? 'chart' : 'table'} />
    </button>
  );
  return (
    <Panel
      title={title}
      name={queries[0]?.metric ?? title}
      note={found.length > 0 ? noteOf(suffix, data.interval, queries[0]) : undefined}
      actions={found.length > 0 ? actions : undefined}
      class="chart-panel"
    >
      <Shown resource={resource} what={title} height={CHART_HEIGHT + 32}>
        {() =>
          found.length === 0 ? (
            <NoSamples metrics={queries.map((query) => query.metric)} />
          ) : (
            <>
              <TimeSeries title={title} data={data} asTable={asTable} unit={unit} full={full} threshold={threshold} marks={shownMarks} />
              {drawn.length < found.length && (
                <p class="dim">
                  {drawn.length} of {found.length} series: those with the highest peak. The table has all.
                </p>
              )}
            </>
          )
        }
      </Shown>
    </Panel>
  );
}

/** The line that a rule draws across the chart of its metric. */
function thresholdOf(rules: readonly Rule[], queries: readonly Query[], unit: Unit): { value: number; label: string } | undefined {
  const rule = rules.find((candidate) => candidate.enabled && queries.some((query) => query.metric === candidate.metric_pattern));
  if (!rule || rule.threshold_value === null) return undefined;
  return { value: rule.threshold_value, label: `${rule.name} ${rule.comparison} ${withUnit(rule.threshold_value, unit)}` };
}

function NoSamples({ metrics }: { metrics: readonly string[] }): JSX.Element {
  const wanted = hostFilter.value;
  return (
    <EmptyState title="No samples in this range">
      {wanted ?? 'No host'} {wanted === undefined ? 'sent' : 'sent no'} {metrics.join(' or ')} in the{' '}
      {rangeWords(range.value, utc.value).toLowerCase()}.
    </EmptyState>
  );
}
