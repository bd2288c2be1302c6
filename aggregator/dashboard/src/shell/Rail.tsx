// The way between pages: a rail at the left, a bar at the foot of a narrow window.
import type { JSX } from 'preact';
import { Link, PAGES, href, route } from '../routes';
import { useFleet } from '../state/fleet';
import { Icon } from '../ui/Icon';

export function Rail(): JSX.Element {
  const firing = useFleet().alerts.data?.firing ?? 0;
  const version = useFleet().status.data?.version;
  return (
    <nav class="rail" aria-label="Pages">
      <ul>
        {PAGES.map((page) => (
          <li key={page.id}>
            <Link
              to={href(page.path)}
              aria-current={route.value.page === page.id ? 'page' : undefined}
              title={`${page.title} (g ${page.key})`}
            >
              <Icon name={page.id} />
              <span>{page.title}</span>
              {page.id === 'alerts' && firing > 0 && <span class="count">{firing}</span>}
            </Link>
          </li>
        ))}
      </ul>
      {version !== undefined && <p class="version">Keyvigil {version}</p>}
    </nav>
  );
}
