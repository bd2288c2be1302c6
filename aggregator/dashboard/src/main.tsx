// Where the page starts: styles, the address, the beat, and the frame around the pages.
import { render } from 'preact';
import { listen } from './routes';
import { App } from './shell/App';
import { start } from './state/refresh';
import './styles/frame.css';
import './styles/parts.css';
import './styles/narrow.css';

listen();
start();

const root = document.getElementById('app');
if (root) render(<App />, root);
