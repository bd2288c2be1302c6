// Checks what a person is told when the API fails, and that the token goes where it should.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiError, api, queryString, storeToken } from './client';

const stored = new Map<string, string>();

beforeEach(() => {
  stored.clear();
  vi.stubGlobal('sessionStorage', {
    getItem: (name: string) => stored.get(name) ?? null,
    setItem: (name: string, value: string) => stored.set(name, value),
    removeItem: (name: string) => stored.delete(name),
  });
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

function answers(status: number, body: string): ReturnType<typeof vi.fn> {
  const fetch = vi.fn(async () => new Response(body, { status }));
  vi.stubGlobal('fetch', fetch);
  return fetch;
}

async function failure(promise: Promise<unknown>): Promise<ApiError> {
  try {
    await promise;
  } catch (cause) {
    if (cause instanceof ApiError) return cause;
    throw cause;
  }
  throw new Error('did not fail');
}

describe('errors', () => {
  it('says what the problem document says', async () => {
    answers(400, '{"title":"Bad Request","status":400,"detail":"interval: \\"1 fortnight\\" is not a length of time"}');
    const error = await failure(api.status());
    expect(error.message).toBe('400: interval: "1 fortnight" is not a length of time');
    expect(error.status).toBe(400);
  });
  it('copes with an answer that is no problem document', async () => {
    answers(502, '<html>Bad Gateway</html>');
    expect((await failure(api.status())).message).toMatch(/^502: /);
  });
  it('says that nobody answers, and what to do', async () => {
    vi.stubGlobal(
      'fetch',
      vi.fn(async () => Promise.reject(new TypeError('failed to fetch'))),
    );
    const error = await failure(api.status());
    expect(error.message).toBe('The aggregator does not answer');
    expect(error.hint).toContain('keyvigil up');
  });
  it('gives up after a while', async () => {
    vi.useFakeTimers();
    vi.stubGlobal(
      'fetch',
      vi.fn(
        (_: string, init: RequestInit) =>
          new Promise((_resolve, reject) =>
            init.signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError'))),
          ),
      ),
    );
    const waiting = failure(api.status());
    await vi.advanceTimersByTimeAsync(15_000);
    expect((await waiting).message).toBe('No answer within 15 s');
  });
  it('leaves an abort of the page to the page', async () => {
    const abort = new AbortController();
    vi.stubGlobal(
      'fetch',
      vi.fn(async (_: string, init: RequestInit) =>
        Promise.reject(init.signal?.aborted ? new DOMException('aborted', 'AbortError') : new Error('not aborted')),
      ),
    );
    abort.abort();
    await expect(api.status(abort.signal)).rejects.not.toBeInstanceOf(ApiError);
  });
});

describe('requests', () => {
  it('sends the token only once there is one', async () => {
    const fetch = answers(200, '{}');
    await api.status();
    storeToken('kva1_x');
    await api.acknowledge('a/b', { by: 'ana', note: '' });
    const [, first] = fetch.mock.calls[0] as [string, RequestInit];
    const [path, second] = fetch.mock.calls[1] as [string, RequestInit];
    expect(first.headers).not.toHaveProperty('Authorization');
    expect(second.headers).toHaveProperty('Authorization', 'Bearer kva1_x');
    expect(path).toBe('/api/v1/alerts/a%2Fb/acknowledge');
    expect(second.method).toBe('PUT');
  });
  it('writes parameters, repeats lists, and leaves out what is not set', () => {
    expect(queryString({ a: 1, b: undefined, c: '', tag: ['host:web-1', 'x:y z'] })).toBe('?a=1&tag=host%3Aweb-1&tag=x%3Ay+z');
    expect(queryString({})).toBe('');
  });
});
